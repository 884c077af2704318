"""The command line: arguments in, one line or JSON out, exit codes that mean something.

In: words of a shell. Out: what the other folders return, printed.
May import: everything; nothing imports it.
"""
