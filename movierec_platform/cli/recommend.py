"""`movierec recommend`: what the running API recommends to a user."""

from enum import Enum
from typing import Annotated, Any

import typer

from movierec_platform.cli.invocation import HomeOption, JsonOption, settings_of
from movierec_platform.cli.printing import err, print_json, print_line


class Language(str, Enum):
    """What the list is written in."""

    en = "en"
    es = "es"


TEXTS = {
    Language.es: ("RECOMENDACIONES TOP {n} para Usuario {user}:", "Coincidencias"),
    Language.en: ("TOP {n} RECOMMENDATIONS for user {user}:", "coincidences"),
}
GenreOption = Annotated[list[str] | None, typer.Option("--genre", help="Only films of this genre; repeat it for more.")]
ExcludeOption = Annotated[list[str] | None, typer.Option("--exclude-genre", help="No films of this genre; repeatable.")]


def recommend(
    user: Annotated[int, typer.Argument(min=1, help="User id.")],
    n: Annotated[int, typer.Option("-n", min=1, max=100, help="How many movies.")] = 5,
    genre: GenreOption = None,
    exclude_genre: ExcludeOption = None,
    year_from: Annotated[int | None, typer.Option(help="Only films of this year or later.")] = None,
    year_to: Annotated[int | None, typer.Option(help="Only films of this year or earlier.")] = None,
    min_ratings: Annotated[int | None, typer.Option(min=0, help="Only films with at least this many ratings.")] = None,
    diversity: Annotated[
        float | None, typer.Option(min=0, max=1, help="0: by score alone; up to 1: mixed genres.")
    ] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Also films that the user has seen.")] = False,
    why: Annotated[bool, typer.Option("--why", help="Say under each film why it is there.")] = False,
    lang: Annotated[Language, typer.Option(help="Language of the list.")] = Language.es,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Recommend movies to a user."""
    from movierec_platform.local.client import credentials, get_history, get_recommendations

    settings = settings_of(home, "api")
    asked: dict[str, Any] = {
        "n": n,
        "genres": genre,
        "exclude_genres": exclude_genre,
        "year_from": year_from,
        "year_to": year_to,
        "min_ratings": min_ratings,
        "diversity": diversity,
        "include_seen": include_seen or None,
        "explain": why or None,
    }
    recommendation = get_recommendations(settings.api_url, user, asked, credentials(settings))
    if as_json:
        print_json(recommendation)
        return
    head, coincidences = TEXTS[lang]
    print_line(head.format(n=n, user=user))
    for item in recommendation["items"]:
        print_line(f"{item['rank']}. {item['title']} ({coincidences}: {item['coincidencias']})")
        if why:
            print_line(f"   {item['reasons'][lang.value]}")
    if len(recommendation["items"]) < n:
        err.print(f"no more films pass the filters: {len(recommendation['items'])} of {n}")
    if (
        recommendation["strategy"] != "graph_cf"
        and not get_history(settings.api_url, user, credentials(settings))["total"]
    ):
        err.print(f"user {user} is not known: these are films that many people watch")
