"""What a page says about itself: HTML, its address and its headers in, a `Document` out. No I/O.

1. `excerpt.py`   cuts the few elements out of the page that say something about it
2. `page.py`      parses them, with `json_ld.py`, into what the rules read
3. `sources.py`   the table of where each field is looked for, and in which order
4. one file for each thing that is found: `title.py`, `site_name.py`, `kind.py`, `language.py`,
   `canonical.py`, `image.py`, `icons.py`, `theme_color.py`, `author.py`, `moments.py` (dates),
   `links.py` (feeds, oEmbed, languages), `robots.py`, `social.py` (Open Graph, Twitter Cards)
5. `document.py`  puts them together
"""
