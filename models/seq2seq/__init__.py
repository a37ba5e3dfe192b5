"""Floor 7: sequence to sequence: the distribution of an output given an input of another length."""
