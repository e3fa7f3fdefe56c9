"""`movierec recommend`: what the running API recommends to a user."""

from typing import Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import print_json, print_line


def recommend(
    user: Annotated[int, typer.Argument(min=1, help="User id.")],
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many movies.")] = 5,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Recommend movies to a user."""
    from movierec_platform.local.client import credentials, get_recommendations

    settings = settings_of(home, "api")
    recommendation = get_recommendations(settings.api_url, user, n, credentials(settings))
    if as_json:
        print_json(recommendation)
        return
    print_line(f"RECOMENDACIONES TOP {n} para Usuario {user}:")
    for item in recommendation["items"]:
        print_line(f"{item['rank']}. {item['title']} (Coincidencias: {item['coincidencias']})")
