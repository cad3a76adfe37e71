#!/usr/bin/env bash
# Expected: what follows sqlite:/// in an address is the path of the file as it stands, as in SQLAlchemy 1.4 and 2.0: a tool may put
# any path after it that has no question mark. MLflow takes every SQLAlchemy from 1.4 to below 3 for its SQLite store.
# What happens (2026-11-29): SQLAlchemy 2.1 decodes the path, so the same address names another file: runs%25/mlflow.db is that of
# the folder runs%, which may not be there ("unable to open database file"), or be somebody else's. And %3F is a question mark in
# 2.1, where 2.0 opens a file of that name. Only URL.create(database=path) is the same path in both; what it renders differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/path.py" <<'PYTHON'
import sys
import sqlalchemy
from sqlalchemy.engine import URL, make_url
path = "/runs%25/a%3Fb.db"
found, rendered = make_url(f"sqlite:///{path}").database, URL.create("sqlite", database=path).render_as_string()
print(f"sqlalchemy {sqlalchemy.__version__}: sqlite:///{path} is {found}; that path is written {rendered}")
assert make_url(rendered).database == path
raise SystemExit(0 if (found, rendered) == tuple(sys.argv[1:]) else 1)
PYTHON
check() {
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" install --quiet --disable-pip-version-check "sqlalchemy==$1"
    "$folder/$1/bin/python" "$folder/path.py" "$2" "$3"
}
check 2.0.44 '/runs%25/a%3Fb.db' 'sqlite:////runs%25/a%3Fb.db'
check 2.1.9 '/runs%/a?b.db' 'sqlite:////runs%2525/a%253Fb.db'
