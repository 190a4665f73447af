import LossdPluginKit
import LossdTensor

extension ClassLoss {
  /// nll_loss of float32 by int64 targets without weights: one element a position is read, so that what
  /// is left is the way to it.
  static func isDirect(_ call: Call, _ input: TensorView, _ target: TensorView) -> Bool {
    !hasLogits && input.dataType == .float32 && target.dataType == .int64 && call.input(3) == nil
  }

  static func runDirect(
    _ call: Call, _ state: ClassState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(0), let target = call.input(1) else { return }
    let layout = state.layout
    let x = input.elements(as: Float.self)
    let labels = target.elements(as: Int64.self)
    let gradient = call.output(1)?.elements(as: Float.self)
    let ignored = call.attributes.int(1)
    let reduction = Reduction(call.attributes)
    let perPosition = reduction == .none ? call.output(0)?.elements(as: Float.self) : nil
    let upstream = reduction == .none ? call.input(2) : nil
    let scale =
      gradient == nil || upstream != nil
      ? 1 : reduction.scale(call.input(2), 0, weightSum: call.totals[1])
    var losses = CompensatedSum()
    var kept = 0
    var start = layout.start(chunk.range.lowerBound)
    var column = chunk.range.lowerBound % layout.inner
    for position in chunk.range {
      let label = labels[position]
      if label != ignored {
        try checkLabel(label, position, target, layout.classes)
        let place = start + Int(label) * layout.inner
        losses.add(-Double(x[place]))
        perPosition?[position] = -x[place]
        gradient?[place] = Float(-scale * (upstream.map { $0[position] } ?? 1))
        kept += 1
      } else {
        perPosition?[position] = 0
      }
      column += 1
      start += 1
      if column == layout.inner {
        column = 0
        start += (layout.classes - 1) * layout.inner
      }
    }
    chunk.sums[0] += losses.value
    if !state.sumsWeightsFirst { chunk.sums[1] += Double(kept) }
  }
}
