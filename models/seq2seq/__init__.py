"""Floor 7: sequence to sequence: a text from another one, as a language model that is told what to write of."""
