"""What people ask of versioned data: what is there, what changed, what failed, what a source looks like, what is garbage."""
