"""The command line: one thin file per verb.

What comes in: words a person typed. What goes out: an exit code, results on stdout, everything about the results on stderr. What it
never does: hold logic that a program would want too; a verb parses, calls the roofs and prints. Read `main.py` first, then a verb.
"""
