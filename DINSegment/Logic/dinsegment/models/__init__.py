"""The models that there are, and their weights.

`entries` reads weights.json, the list of models. `weights` looks for a model's weights where `settings` say: shipped,
in an offline folder, in the cache; otherwise `download` fetches them, and `download_errors` says why it could not.
Before they are used, their SHA-256 is checked. A network is made of them in `dinsegment.inference.model`.
"""
