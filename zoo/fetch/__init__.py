"""Downloads, checks, pins and unpacks what the registry names."""
