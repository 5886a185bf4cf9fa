"""Studies: records of data sets, prepared samples, the cohort of a run, and the audit."""
