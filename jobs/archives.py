"""The parameter `archive` of a delete: a registered table, or a file to be written.

Owns what may be asked for. Refuses, without database or disk, what cannot be.
"""

from pydantic import BaseModel

from worker import NotAllowedError, OutputError, OutputSpec, ParametersError, RegisteredTable, Tables, check_output


class TableArchive(BaseModel, extra="forbid", frozen=True):
    """An archive that is a table.

    Attributes:
        table: the name of a registered table.
    """

    table: str


Archive = str | TableArchive | OutputSpec | None
"""The parameter: a registered table or a file, by name or spelt out; nothing where rows are not kept."""


def find_archive(given: Archive, table: str, tables: Tables) -> RegisteredTable | OutputSpec | None:
    """The archive that a payload names. It needs neither database nor disk: a client may call it.

    Args:
        given: the parameter. A text is a table where one of that name is registered, else a file.
        table: the name of the table that rows are deleted from.
        tables: the registered ones.

    Raises:
        RequestError: there is no such archive, nothing may be inserted into it, or it is the table itself.
    """
    if given is None:
        return None
    if isinstance(given, OutputSpec):
        check_output(given)
        return given
    name = given.table if isinstance(given, TableArchive) else given
    if isinstance(given, str) and given not in _known(tables):
        return _file_named(given, tables)
    if name == table:
        raise ParametersError(f"Table {table!r} cannot be its own archive. Name another table, or leave `archive` out")
    try:
        return tables.allowed(name, "upsert")
    except NotAllowedError as error:
        raise NotAllowedError(f"An archive is inserted into, which is the operation 'upsert'. {error}") from error


def _file_named(given: str, tables: Tables) -> OutputSpec:
    spec = OutputSpec(uri=given)
    try:
        check_output(spec)
    except OutputError as error:
        raise ParametersError(
            f"`archive` is {given!r}, which is neither a registered table ({', '.join(sorted(_known(tables)))}) nor a "
            f"file: {error}"
        ) from error
    return spec


def _known(tables: Tables) -> set[str]:
    return {table.name for table in tables}
