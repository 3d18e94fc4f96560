"""What users declare: jobs, tables, and what a job is given to work with."""
