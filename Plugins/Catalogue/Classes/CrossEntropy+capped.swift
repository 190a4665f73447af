import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// cross_entropy of class indices with what torch has none of: logits x that `softcap` k keeps
/// within +-k, as k tanh(x / k) (Gemma Team (2024), "Gemma 2: Improving Open Language Models at a
/// Practical Size"), and c times the square of their log-sum-exp added to each position's loss, c
/// being `lse_square_scale` (the z-loss of Chowdhery and others (2022), "PaLM: Scaling Language
/// Modeling with Pathways"). In float64, a row at a time, or many of few classes.
struct CappedLogits {
  private static let (smoothing, softcap, square) = (2, 3, 4)

  static var attributes: [AttributeDeclaration] {
    [
      .number(
        "softcap", 0, minimum: 0, maximum: .greatestFiniteMagnitude,
        help: "logits x are softcap tanh(x / softcap); 0: as they are"),
      .number(
        "lse_square_scale", 0, minimum: 0, maximum: .greatestFiniteMagnitude,
        help: "what logsumexp(logits)^2 counts in each loss (z-loss)"),
    ]
  }

  static func areWanted(_ attributes: Attributes) -> Bool {
    attributes.float(softcap) != 0 || attributes.float(square) != 0
  }

  static func check(_ call: Call) throws(StatusError) {
    guard call.attributes.float(square) == 0 || call.input(ClassPlaces.weight) == nil else {
      throw invalid(
        "lse_square_scale is \(call.attributes.float(square)), expected 0 with a weight, which "
          + "says of classes alone how much they count")
    }
  }

  static func planPass(_ plan: inout Plan, _ layout: ClassLayout) {
    plan.setScratch(
      bytes: RowWork.blockBytes(layout.classes) + RowsBlock.bytes(layout.classes)
        + ClassBlock.headBytes)
    plan.addPass(units: layout.positions, unitCost: 100 + 12 * Double(layout.classes))
  }

  private let call: Call
  private let layout: ClassLayout
  private let input: TensorView
  private let scratch: UnsafeMutableRawPointer
  private let (smoothing, cap, square): (Double, Double, Double)

  init(
    _ call: Call, _ state: ClassState, _ input: TensorView, _ scratch: UnsafeMutableRawPointer
  ) {
    self.call = call
    layout = state.layout
    self.input = input
    self.scratch = scratch
    smoothing = call.attributes.float(Self.smoothing)
    cap = call.attributes.float(Self.softcap)
    square = call.attributes.float(Self.square)
  }

  /// Evaluates the positions of a chunk, rows of few classes together where there is a cap alone;
  /// false where it does not.
  func runBlocks(
    _ state: ClassState, _ chunk: Chunk, _ target: TensorView
  ) throws(StatusError) -> Bool {
    let classes = layout.classes
    guard layout.inner == 1, RowsBlock.rows(classes) > 1, cap > 0, smoothing == 0, square == 0,
      let kernels = Kernels.chosen?.float64
    else { return false }
    let block = RowsBlock(scratch + RowWork.blockBytes(classes), classes)
    var known = ClassBlock(scratch + RowWork.blockBytes(classes) + RowsBlock.bytes(classes))
    let gradient = call.output(ClassPlaces.gradient)
    let perPosition = LossReduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    let weights = ChunkTotal(chunk, Sums.weights)
    for first in stride(from: chunk.range.lowerBound, to: chunk.range.upperBound, by: block.rows) {
      let count = min(block.rows, chunk.range.upperBound - first)
      let (start, elements) = (layout.start(first), count * classes)
      try known.setLabels(
        kernels, call, target, classes, first, count, state.sumsWeightsFirst ? nil : weights)
      if gradient != nil { known.setScales(call, first, weightSum: call.totals[Sums.weights]) }
      for index in 0..<count {
        block.labels[index] = known.labels[index]
        block.factors[index] = gradient == nil ? 0 : known.scale(index) * known.weight(index)
      }
      Double._load(input, start, block.x, elements)
      capped(kernels, block.x, block.y, elements)
      block.crossEntropy(kernels, count, classes, hasGradient: gradient != nil)
      if let gradient {
        for index in 0..<count where block.labels[index] >= 0 {
          block.x[index * classes + Int(block.labels[index])] =
            block.factors[index] * expm1(-block.losses[index])
        }
        for index in 0..<elements { block.x[index] *= block.y[index] }
        Double._store(block.x, gradient, start, elements)
      }
      for index in 0..<count {
        known.losses[index] = known.weight(index) * block.losses[index]
        if !block.isExtreme(index) { continue }
        let label = Int(known.labels[index])
        known.losses[index] = try evaluate(
          ClassRow(
            position: first + index, start: layout.start(first + index),
            label: label < 0 ? nil : label, weight: known.weight(index),
            scale: gradient == nil ? 0 : known.scale(index)))
      }
      known.finish(chunk, perPosition, first)
    }
    return true
  }

  /// Writes the gradient of a position, where it is wanted, and returns its loss.
  func evaluate(_ row: ClassRow) throws(StatusError) -> Double {
    let gradient = call.output(ClassPlaces.gradient)
    if row.label == nil && gradient == nil { return 0 }
    let weight = call.input(ClassPlaces.weight)
    let work = RowWork(
      call: call, input: input, target: input, weight: weight, gradient: gradient,
      row: row.position,
      classes: layout.classes, start: row.start, step: layout.inner, scale: row.scale,
      scratch: scratch)
    var sums = RowState(max: -.infinity, rest: 0)
    // Of the classes' weights, and of logits times these.
    var (weights, smooth) = (CompensatedSum(), CompensatedSum())
    var picked = 0.0
    try work.eachBlock { first, count throws(StatusError) in
      load(work, first, count)
      let part = Double.state(work.x, count)
      if work.isOneBlock { sums = part } else { sums.add(part) }
      if let label = row.label, label >= first && label < first + count {
        picked = work.x[label - first]
      }
      guard smoothing > 0 else { return }
      for index in 0..<count {
        let w = weight.map { $0[first + index] } ?? 1
        weights.add(w)
        smooth.add(w * work.x[index])
      }
    }
    // Of nothing but -infinity, too, softmax is NaN.
    if !sums.max.isFinite { sums.rest = .nan }
    let lse = sums.max + sums.logSum
    let logarithm = sums.logProbability(picked)
    let spread = smoothing / Double(layout.classes)
    var loss = 0.0
    if row.label != nil {
      loss = -(1 - smoothing) * row.weight * logarithm
      if smoothing > 0 { loss += spread * (weights.value * lse - smooth.value) }
      if square > 0 { loss += square * lse * lse }
    }
    guard gradient != nil else { return loss }
    let scale = row.label == nil ? 0 : row.scale
    let kept = scale * (1 - smoothing) * row.weight
    // What each probability counts beside the target's own part.
    let rest = scale * (spread * weights.value + 2 * square * lse)
    try work.eachBlock { first, count throws(StatusError) in
      if !work.isOneBlock { load(work, first, count) }
      Double.probabilities(work.x, work.y, count, part: sums, row: sums, times: kept + rest)
      if let label = row.label, label >= first && label < first + count {
        work.y[label - first] = kept * expm1(logarithm) + rest * exp(logarithm)
      }
      if smoothing > 0 {
        for index in 0..<count {
          work.y[index] -= scale * spread * (weight.map { $0[first + index] } ?? 1)
        }
      }
      if cap > 0 { for index in 0..<count { work.y[index] *= work.z[index] } }
      work.store(first, count)
    }
    return loss
  }

  /// Loads a block of logits, capped; their derivatives into `z`.
  private func load(_ work: RowWork, _ first: Int, _ count: Int) {
    work.load(first, count)
    if cap > 0 { capped((Kernels.chosen ?? Kernels.baseline).float64, work.x, work.z, count) }
  }

  /// Caps `x`; the derivatives go to `slopes`.
  private func capped(
    _ kernels: KernelTable, _ x: UnsafeMutablePointer<Double>,
    _ slopes: UnsafeMutablePointer<Double>, _ count: Int
  ) {
    for index in 0..<count { x[index] /= cap }
    var elements = ElementCall(
      .tanh, x: x, values: x,
      slopes: call.wants(ClassPlaces.gradient) ? UnsafeMutableRawPointer(slopes) : nil,
      count: count)
    _ = kernels.elements(&elements)
    for index in 0..<count { x[index] *= cap }
  }
}
