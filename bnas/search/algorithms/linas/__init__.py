"""LINAS and the parts it is made of: what may be proposed, surrogates, the search on them, the choice of a batch."""
