"""Pictures of every page in both themes and three widths: `make screenshots`.

The widest ones show what a screen shows, the others the whole page.
"""

import os

import pytest

from api.domain.scopes import SCOPES
from tests.api.routes.conftest import MakeUser
from tests.api.routes.user import User
from tests.browser.conftest import OpenPage, go, picture
from tests.browser.history import make_history
from tests.browser.test_pages import PAGES, vars_of

WIDEST = 1440
WIDTHS = (360, 820, WIDEST)


@pytest.fixture(scope="module")
def user(make_user: MakeUser) -> User:
    return make_user(project="acme", scopes=SCOPES)


@pytest.mark.timeout(1800)
@pytest.mark.skipif("SCREENSHOTS" not in os.environ, reason="makes no pictures without SCREENSHOTS=folder")
def test_screenshots(url: str, user: User, open_page: OpenPage) -> None:
    ids = vars_of(make_history(user))
    for theme in ("light", "dark"):
        for width in WIDTHS:
            page = open_page(f"{url}/dashboard/#key={user.secret}", width=width, theme=theme)
            for name, path in PAGES.items():
                go(page, path.format(**ids))
                picture(page, name.replace(" ", "-"), theme=theme, whole=width < WIDEST)
