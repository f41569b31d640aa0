"""Fast tests with every supported version of Python, as ``nox``.

Sessions of interpreters that are not installed are skipped; ``nox --list`` shows all of them.
"""

import nox

PYTHONS = ("3.11", "3.12", "3.13", "3.14")

nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the fast tests; arguments after ``--`` are those of pytest."""
    session.install("-e", ".[tests]")
    session.run("pytest", "-m", "not slow", *session.posargs)
