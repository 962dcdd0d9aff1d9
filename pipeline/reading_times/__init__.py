"""Tables of surprisal and of reading times in, how much of the times surprisal explains out.

two files → ``tables`` → the words of both, matched (``words``) → columns of a regression (``predictors``) → its
log-likelihood with and without surprisal, on held-out items (``regression``) → the curve (``curve``).
Letters: N words or readings, K columns.
"""
