"""Speed against the peers: answers checked equal first, interleaved rounds in one run, median ratios."""
