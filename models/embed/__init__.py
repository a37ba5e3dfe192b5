"""Floor 7: word embeddings: skip-gram, CBOW, GloVe and others; vectors of words and what can be asked of them."""
