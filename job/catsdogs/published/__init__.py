"""What is done with finished runs: predict, list, verify."""
