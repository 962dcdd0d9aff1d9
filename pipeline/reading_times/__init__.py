"""Tables of surprisal and of reading times in, how much of the times surprisal explains out.

two files → ``tables`` → words of the same text side by side, ``words`` → columns of a regression, ``predictors`` → its
log-likelihood with and without surprisal, on items that it was not fitted on, ``regression`` → the curve, ``curve``.
Letters: N words or readings, K columns.
"""
