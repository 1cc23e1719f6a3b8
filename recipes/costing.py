"""What one update of a stage costs, from its model, its batch and what is frozen."""

from recipes import ledger, recipe


def of_stage(stage: recipe.Stage) -> ledger.StageCost:
    """The ledger's entry for one update of `stage`; no array is made and no file read."""
    spec = stage.data.spec(stage.batch)
    length = {name: shape[1] for name, (shape, _) in spec.items() if len(shape) > 1}
    inputs = length.get("encoder_inputs", length.get("decoder_inputs", 0))
    targets = length.get("decoder_inputs", 0)
    predicted = length.get("targets", 1)
    costs = stage.loss.costs(stage.model, rows=stage.batch, inputs=inputs, targets=targets, predicted=predicted)
    return ledger.stage_cost(costs, stage.frozen, stage.model.abstract(), stage.batch, inputs)
