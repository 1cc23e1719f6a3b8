"""What is counted in a compiled program's text."""

from recipes import counts


def test_groups_of_devices_in_each_notation():
    assert counts.members("replica_groups={{0,2},{1,3}}, x") == [[0, 2], [1, 3]]
    assert counts.members("replica_groups=[2,2]<=[2,2]T(1,0), x") == [[0, 2], [1, 3]]
    assert counts.members("replica_groups=mesh['a'=2,'b'=2] {'a'}, x") == [[0, 2], [1, 3]]
    assert counts.members("channel_id=1") == []


def test_what_goes_between_slices_is_counted_in_loops_too():
    text = """
%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[], f32[8,128]{1,0}) parameter(0)
  %x = f32[8,128]{1,0} get-tuple-element(%p), index=1
  %after = token[] after-all()
  %send = (f32[8,128]{1,0}, u32[], token[]) send(%x, %after), attributes={handler="xla_megascale_runtime"}
  ROOT %t = (s32[], f32[8,128]{1,0}) tuple(%p, %x)
}
%condition (p: (s32[], f32[8,128])) -> pred[] {
  %p = (s32[], f32[8,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(12)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}
ENTRY %main (a: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %a = (s32[], f32[8,128]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[8,128]{1,0}) while(%a), condition=%condition, body=%body
}
"""
    found = counts.count(text, per_slice=4)
    assert found.dcn == 12 * 8 * 128 * 4 and found.ici == 0 and not found.unknown
    assert counts.count(text, once=True).dcn == 8 * 128 * 4


def test_a_loop_that_counts_by_two_runs_half_as_often():
    text = """
%body (p: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %p = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,8]{1,0} get-tuple-element(%p), index=1
  %by = s32[] constant(2)
  %next = s32[] add(%i, %by)
  %y = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %t = (s32[], f32[8,8]{1,0}) tuple(%next, %y)
}
%condition (p: (s32[], f32[8,8])) -> pred[] {
  %p = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] constant(15)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}
ENTRY %main (a: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %a = (s32[], f32[8,8]{1,0}) parameter(0)
  ROOT %loop = (s32[], f32[8,8]{1,0}) while(%a), condition=%condition, body=%body
}
"""
    assert counts.count(text).flops == 8 * 2 * 8**3
    assert counts.count(text.replace("constant(2)", "constant(1)")).flops == 15 * 2 * 8**3


def test_a_slice_counts_as_the_slice_in_fusions_within_fusions_too_and_ahead_of_its_use():
    text = """
%cut (p: f32[12,8,128], i: s32[]) -> f32[8,128] {
  %p = f32[12,8,128]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %one = f32[1,8,128]{2,1,0} dynamic-slice(%p, %i, %zero, %zero), dynamic_slice_sizes={1,8,128}
  ROOT %out = f32[8,128]{1,0} bitcast(%one)
}
%fused (p: f32[12,8,128], i: s32[]) -> f32[8,128] {
  %p = f32[12,8,128]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %layer = f32[8,128]{1,0} fusion(%p, %i), kind=kLoop, calls=%cut
  ROOT %twice = f32[8,128]{1,0} add(%layer, %layer)
}
ENTRY %main (p: f32[12,8,128], i: s32[]) -> f32[8,128] {
  %p = f32[12,8,128]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %ahead = ((f32[12,8,128]{2,1,0}), f32[3,8,128]{2,1,0:S(1)}, s32[]{:S(2)}) slice-start(%p), slice={[0:3], [0:8], [0:128]}
  %near = f32[3,8,128]{2,1,0:S(1)} slice-done(%ahead)
  ROOT %out = f32[8,128]{1,0} fusion(%p, %i), kind=kLoop, calls=%fused
}
"""
    layer, index = 8 * 128 * 4, 4
    assert counts.count(text).bytes == 3 * layer + (layer + index) + layer


def test_a_collective_that_runs_beside_a_loops_products_counts_once():
    text = """
%begin (p: PART) -> (PART, WHOLE) {
  %p = PART parameter(0)
  %g = WHOLE all-gather(%p), GATHER
  ROOT %s = (PART, WHOLE) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}
%beside (p: PART, q: WHOLE, x: OTHER) -> (OTHER, PART, WHOLE, WHOLE) {
  %x = OTHER parameter(2)
  %y = OTHER add(%x, %x)
  %p = PART parameter(0)
  %q = WHOLE parameter(1)
  %g = WHOLE all-gather(%p), GATHER
  ROOT %t = (OTHER, PART, WHOLE, WHOLE) tuple(%y, %p, %q, %g)
}
%end (p: PART, q: WHOLE) -> WHOLE {
  %p = PART parameter(0)
  %q = WHOLE parameter(1)
  %g = WHOLE all-gather(%p), GATHER
  ROOT %d = WHOLE custom-call(%p, %q, %g), custom_call_target="AsyncCollectiveDone"
}
%body (b: (PART, WHOLE, OTHER)) -> (PART, WHOLE, OTHER) {
  %b = (PART, WHOLE, OTHER) parameter(0)
  %p = PART get-tuple-element(%b), index=0
  %q = WHOLE get-tuple-element(%b), index=1
  %x = OTHER get-tuple-element(%b), index=2
  %f = (OTHER, PART, WHOLE, WHOLE) fusion(%p, %q, %x), kind=kLoop, calls=%beside
  %y = OTHER get-tuple-element(%f), index=0
  ROOT %t = (PART, WHOLE, OTHER) tuple(%p, %q, %y)
}
%condition (b: (PART, WHOLE, OTHER)) -> pred[] {
  %b = (PART, WHOLE, OTHER) parameter(0)
  ROOT %less = pred[] constant(true)
}
ENTRY %main (p: PART, x: OTHER) -> WHOLE {
  %p = PART parameter(0)
  %x = OTHER parameter(1)
  %start = (PART, WHOLE) fusion(%p), kind=kCustom, calls=%begin
  %a = PART get-tuple-element(%start), index=0
  %b = WHOLE get-tuple-element(%start), index=1
  %t = (PART, WHOLE, OTHER) tuple(%a, %b, %x)
  %loop = (PART, WHOLE, OTHER) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"12"}}
  %p1 = PART get-tuple-element(%loop), index=0
  %q1 = WHOLE get-tuple-element(%loop), index=1
  ROOT %done = WHOLE fusion(%p1, %q1), kind=kCustom, calls=%end
}
"""
    shapes = {"PART": "f32[2,128]{1,0}", "WHOLE": "f32[8,128]{1,0}", "OTHER": "f32[4,128]{1,0}"}
    gather = 'channel_id=5, replica_groups={{0,1,2,3}}, dimensions={0}, frontend_attributes={chain_id="0"}'
    for name, meant in {**shapes, "GATHER": gather}.items():
        text = text.replace(name, meant)
    row = 128 * 4
    found = counts.count(text)
    assert found.collectives == {"all-gather": 8 * row} and found.ici == 6 * row
    begun, beside = (2 + 2 + 8) * row, 12 * (4 + 4) * row
    assert found.bytes == begun + beside
