"""`movierec recommend`: what the running API recommends to a user."""

import json
from typing import Annotated

import typer

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of


def recommend(
    user: Annotated[int, typer.Argument(min=1, help="User id.")],
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many movies.")] = 5,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Recommend movies to a user."""
    from movierec_platform.local.client import credentials, get_recommendations

    settings = settings_of(home)
    recommendation = get_recommendations(settings.api_url, user, n, credentials(settings))
    if as_json:
        print(json.dumps(recommendation, ensure_ascii=False))
        return
    print(f"RECOMENDACIONES TOP {n} para Usuario {user}:")
    for item in recommendation["items"]:
        print(f"{item['rank']}. {item['title']} (Coincidencias: {item['coincidencias']})")
