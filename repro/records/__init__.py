"""What a run leaves behind: record, statistics, folders."""
