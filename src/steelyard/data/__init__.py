"""From a source to labelled, split columns with every row accounted for."""
