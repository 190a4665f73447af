import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// -sum over the classes i of y[i] w[i] log(p[i]) with p = softmax(x): of the target w is (1 - p)^gamma_pos and y
/// 1 - eps + eps / C, of any other class p^gamma_neg and eps / C. Ridnik and others (2021), "Asymmetric Loss For
/// Multi-Label Classification"; ASLSingleLabel of their code, timm's AsymmetricLossSingleLabel (whose default gamma_pos
/// is 1). The gradient goes through the weights too, as it does there.
struct AsymmetricLossSingleLabel: BlockLoss {
  static let name = "asymmetric_loss_single_label"
  static let summary = "cross entropy of smoothed targets, each class by how wrong it is"
  static let inputHelp = "logits, (C) or (N, C)"
  static let elementCost = 6.0
  static var attributes: [AttributeDeclaration] {
    [
      .number(
        "gamma_neg", 4, minimum: 0, maximum: .greatestFiniteMagnitude,
        help: "how much less certain other classes count"),
      .number(
        "gamma_pos", 0, minimum: 0, maximum: .greatestFiniteMagnitude,
        help: "how much less a certain target counts"),
      .number(
        "eps", 0.1, minimum: 0, maximum: 1, help: "share of the target given to all classes alike"),
    ]
  }

  private enum Place { static let (gammaNeg, gammaPos, eps) = (1, 2, 3) }
  private let ofOthers: Double
  private let ofTarget: Double
  private let smoothing: Double

  init(_ attributes: Attributes) {
    ofOthers = attributes.float(Place.gammaNeg)
    ofTarget = attributes.float(Place.gammaPos)
    smoothing = attributes.float(Place.eps)
  }

  func evaluate(_ row: RowWork) throws(StatusError) -> Double {
    let label = try row.label()
    var state = RowState(max: -.infinity, rest: 0)
    try row.eachBlock { first, count throws(StatusError) in
      row.load(first, count)
      let part = Double.state(row.x, count)
      if row.isOneBlock { state = part } else { state.add(part) }
    }
    if !state.max.isFinite { state.rest = .nan }
    let share = smoothing / Double(row.classes)
    let logarithm = state.logProbability(row.element(label))
    let own = target(logarithm, 1 - smoothing + share)
    // Slopes of the other classes' terms.
    var (losses, slopes) = (CompensatedSum(), CompensatedSum())
    losses.add(own.value)
    if share > 0 {
      try row.eachBlock { first, count throws(StatusError) in
        if !row.isOneBlock { row.load(first, count) }
        let sums = others(row, first, count, state, share, label)
        losses.add(sums.loss)
        slopes.add(sums.slope)
      }
    }
    guard row.gradient != nil else { return losses.value }
    try row.eachBlock { first, count throws(StatusError) in
      if !row.isOneBlock || share == 0 { logarithms(row, first, count, state) }
      if share > 0 {
        if !row.isOneBlock { _ = termsOfLoaded(row, first, count, share, label) }
      } else {
        row.z.update(repeating: 0, count: count)
      }
      // The slope of each term, less what all give to each logit.
      if label >= first && label < first + count { row.z[label - first] = own.slope }
      writeExponentials(row.x, row.y, count)
      let (all, factor) = (slopes.value + own.slope, row.scale)
      for index in 0..<count { row.y[index] = factor * (row.z[index] - row.y[index] * all) }
      if label >= first && label < first + count {
        // The target's own part is times 1 - p, which would cancel.
        row.y[label - first] =
          factor * (-expm1(logarithm) * own.slope - exp(logarithm) * slopes.value)
      }
      row.store(first, count)
    }
    return losses.value
  }

  func evaluate(
    _ kernels: KernelTable, _ work: RowWork, _ block: RowsBlock, _ count: Int
  ) throws(StatusError) {
    let (classes, elements) = (work.classes, count * work.classes)
    let share = smoothing / Double(classes)
    Double._load(work.input, work.start, block.x, elements)
    block.logSoftmax(kernels, count, classes)
    for index in 0..<elements { block.y[index] = ofOthers * block.x[index] }
    if share > 0 && ofOthers != 0 { kernels.exp(block.y, block.y, elements) }
    for index in 0..<count {
      let label = work.target.integer(work.row + index)
      try checkLabel(label, work.row + index, work.target, classes)
      let (x, y) = (block.x + index * classes, block.y + index * classes)
      let own = target(x[Int(label)], 1 - smoothing + share)
      var sums = (loss: 0.0, slope: 0.0)
      if share > 0 {
        if ofOthers == 0 { y.update(repeating: 1, count: classes) }
        sums = terms(x, y, classes, share, Int(label))
      } else {
        y.update(repeating: 0, count: classes)
      }
      block.losses[index] = own.value + sums.loss
      block.labels[index] = Int32(label)
      block.numbers[index] = sums.slope
      y[Int(label)] = own.slope
    }
    guard let gradient = work.gradient else { return }
    for index in 0..<count {
      let (x, y) = (block.x + index * classes, block.y + index * classes)
      let (label, factor, others) = (
        Int(block.labels[index]), block.factors[index], block.numbers[index]
      )
      let (logarithm, own) = (x[label], y[label])
      kernels.exp(x, x, classes)
      for place in 0..<classes { x[place] = factor * (y[place] - x[place] * (others + own)) }
      x[label] = factor * (-expm1(logarithm) * own - exp(logarithm) * others)
    }
    Double._store(block.x, gradient, work.start, elements)
  }

  /// The target's term, and its derivative by log p.
  private func target(_ l: Double, _ y: Double) -> (value: Double, slope: Double) {
    let rest = -expm1(l)
    let weight = ofTarget == 0 ? 1 : pow(rest, ofTarget)
    let p = exp(l)
    // p l / (1 - p), which goes to -1 at a certain target.
    let share = p == 0 ? 0 : rest == 0 ? -1 : p * l / rest
    let value = weight == 0 ? 0 * l : -y * weight * l
    return (value, -y * weight * (1 - ofTarget * share))
  }

  /// Makes `x` the logarithms of the probabilities.
  private func logarithms(_ row: RowWork, _ first: Int, _ count: Int, _ state: RowState) {
    row.load(first, count)
    logarithmsOfLoaded(row, count, state)
  }

  private func logarithmsOfLoaded(_ row: RowWork, _ count: Int, _ state: RowState) {
    let (max, logSum) = (state.max, state.logSum)
    for index in 0..<count { row.x[index] = row.x[index] - max - logSum }
  }

  private func others(
    _ row: RowWork, _ first: Int, _ count: Int, _ state: RowState, _ share: Double, _ label: Int
  ) -> (loss: Double, slope: Double) {
    logarithmsOfLoaded(row, count, state)
    return termsOfLoaded(row, first, count, share, label)
  }

  /// The terms of the other classes of a block whose logarithms are in `x`: their sum, and that of their slopes, which
  /// are in `z`.
  private func termsOfLoaded(
    _ row: RowWork, _ first: Int, _ count: Int, _ share: Double, _ label: Int
  ) -> (loss: Double, slope: Double) {
    let (x, y, z) = (row.x, row.y, row.z)
    if ofOthers == 0 {
      z.update(repeating: 1, count: count)
    } else {
      for index in 0..<count { y[index] = ofOthers * x[index] }
      writeExponentials(y, z, count)
    }
    return terms(x, z, count, share, label - first)
  }

  /// The sums of the other classes' terms and slopes, of logarithms in `x` and weights in `z`, whose place the slopes take.
  private func terms(
    _ x: UnsafePointer<Double>, _ z: UnsafeMutablePointer<Double>, _ count: Int, _ share: Double,
    _ own: Int
  ) -> (loss: Double, slope: Double) {
    let gamma = ofOthers
    var (loss, slope) = (0.0, 0.0)
    for index in 0..<count {
      let weight = z[index]
      // What has no weight has no term, not even where its logarithm is infinite.
      let isNothing = weight == 0 || index == own
      let l = isNothing ? 0 : x[index]
      let s = isNothing ? 0 : -share * weight * (1 + (gamma == 0 ? 0 : gamma * l))
      loss -= share * weight * l
      slope += s
      z[index] = s
    }
    return (loss, slope)
  }
}
