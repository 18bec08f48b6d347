"""What runs and nights leave on disk: records, statistics, folders; and the verdicts on claims."""
