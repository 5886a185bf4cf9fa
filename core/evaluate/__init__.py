"""Step 7: is what was generated faithful, useful and private?"""
