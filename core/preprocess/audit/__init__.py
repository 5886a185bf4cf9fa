"""What an audit asks of the files of a data set, and how it says what it found."""
