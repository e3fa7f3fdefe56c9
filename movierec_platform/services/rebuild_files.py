"""The whole graph as files for `neo4j-admin database import`, for a Neo4j that is empty and not running."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from movierec_platform.adapters.graph_bulk import Reconstruction
from movierec_platform.adapters.lake import Lake
from movierec_platform.adapters.neo4j_import import ARRAY_DELIMITER, import_command, import_file
from movierec_platform.adapters.objects import open_objects
from movierec_platform.config import Settings
from movierec_platform.domain.interactions import visible
from movierec_platform.errors import UsageError
from movierec_platform.services.catalog import catalog_table
from movierec_platform.services.fold import fold_everything
from movierec_platform.services.rebuild import Progress, movies_of, publication_at, versions_of
from movierec_platform.services.versions import EDGE, edge_batches


def write_files(settings: Settings, folder: Path, as_of_ms: int | None, now_ms: int, progress: Progress) -> str:
    """The folder has the graph as of then (epoch ms) or as of now; returns the command that imports it.

    What it makes is an interrupted rebuild that lacks only its last step: `rebuild_graph` adds the constraints and the
    pointer to the published similarity. Interrupted, it is begun again; equal parameters give equal files.
    """
    lake = Lake(settings)
    then = Reconstruction(now_ms if as_of_ms is None else as_of_ms, as_of_given=as_of_ms is not None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        movies, expected = _write_movies(lake, folder, then.as_of_ms)
        progress("movies", movies, movies)
        last_user_id = users = pairs = 0
        with ExitStack() as files:
            usuario, vio, retiro = (
                files.enter_context(import_file(folder, name)) for name in ("Usuario", "VIO", "RETIRO")
            )
            for rows in fold_everything(lake, open_objects(settings), then.as_of_ms):
                ids = rows["user_id"].unique()
                usuario.write(pa.table([ids, ids], ["id", "property"]))
                seen = visible(rows)
                vio.write(rows.filter(seen))
                retiro.write(rows.filter(pc.invert(seen)))
                last_user_id, users, pairs = ids[-1].as_py(), users + len(ids), pairs + rows.num_rows
                progress("pairs", pairs, max(pairs, expected))
        versions = versions_of(publication_at(lake, then.as_of_ms))
        with import_file(folder, "SIMILAR") as similar:
            for version in versions:
                for batch in edge_batches(lake, version):
                    rows = pa.Table.from_batches([batch]).select(EDGE)
                    similar.write(rows.append_column("version", pa.array([version] * rows.num_rows, pa.string())))
                progress(f"similarity {version}", 1, 1)
        marker = Reconstruction(
            then.as_of_ms, then.as_of_given, expected, movies, last_user_id, users, pairs, True, tuple(versions)
        )
        noted = {**asdict(marker), "versions": ARRAY_DELIMITER.join(versions)}
        with import_file(folder, "Reconstruccion") as file:
            file.write(pa.table({"id": [0], "name": ["graph"], **{name: [value] for name, value in noted.items()}}))
    except OSError as error:
        raise UsageError(f"the files cannot be written to {folder}: {error}") from error
    return import_command(folder, settings.neo4j_database)


def _write_movies(lake: Lake, folder: Path, as_of_ms: int) -> tuple[int, int]:
    """The files of movies, genres, and what genres a movie is of; returns how many movies and, in all, pairs."""
    table, popularity = movies_of(lake, as_of_ms)
    movies = catalog_table(table, popularity)
    names = pc.unique(pc.list_flatten(movies["genres"])).sort()
    with import_file(folder, "Genero") as file:
        file.write(pa.table([np.arange(len(names)), names], ["id", "name"]))
    with import_file(folder, "ES_DE") as file:
        movie_ids = movies["id"].take(pc.list_parent_indices(movies["genres"]))
        file.write(pa.table([movie_ids, pc.index_in(pc.list_flatten(movies["genres"]), names)], ["movie", "genre"]))
    with import_file(folder, "Pelicula") as file:
        joined = movies.set_column(
            movies.column_names.index("genres"), "genres", pc.binary_join(movies["genres"], ARRAY_DELIMITER)
        )
        file.write(joined.add_column(0, "node", movies["id"]))
    return movies.num_rows, pc.sum(popularity["seen_count"]).as_py() or 0
