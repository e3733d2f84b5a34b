"""The list of models over HTTP, and one of them by name, with its slash."""

import openai
from common import MODEL, client, refused

api = client()

(model,) = api.models.list().data
assert model.id == MODEL and model.object == "model", model
assert model.max_model_len > 0 and model.ready is True, model
assert api.models.retrieve(MODEL).id == MODEL
missing = refused(openai.NotFoundError, api.models.retrieve, "no/such")
assert missing.code == "model_not_found", missing
