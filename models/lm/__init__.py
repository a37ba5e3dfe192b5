"""Floor 7: language models: the distribution of the next symbol, training it, and its use."""
