"""What is compared: the plan, the splits, the extractions and the trials."""
