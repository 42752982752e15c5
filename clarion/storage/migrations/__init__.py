"""The steps that lead an older database to the present schema; Alembic runs them at every open."""
