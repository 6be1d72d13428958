"""`python -m docs.generate`: write the pages that are made from the code."""

from docs.generate.pages import FOLDER, PAGES

for name, page in PAGES.items():
    (FOLDER / name).write_text(page(), "utf-8")
    print(f"docs/reference/{name}")
