"""From torch modules to hoirt packs: needs the `export` extra; hoirt itself never imports it."""
