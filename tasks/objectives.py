"""The objectives by name, as recipes write them: `@objectives.SpanCorruption()`.

Each is one numpy function from (rows of tokens, random numbers) to a batch of the contract, with its rates as fields.
"""

from tasks import denoising, masking, mixing, objective, prefix, restoring, spans

Objective = objective.Objective
MaskedLM = masking.MaskedLM
SpanCorruption = spans.SpanCorruption
Denoise = denoising.Denoise
CausalLM = prefix.CausalLM
PrefixLM = prefix.PrefixLM
RestoreText = restoring.RestoreText
Mixture = mixing.Mixture

__all__ = ["CausalLM", "Denoise", "MaskedLM", "Mixture", "Objective", "PrefixLM", "RestoreText", "SpanCorruption"]
