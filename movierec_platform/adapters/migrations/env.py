"""Run by alembic for each command: the changes are carried out on the connection that the command was given."""

from alembic import context

from movierec_platform.adapters.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
