import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// sum over the classes i but the target y of weight[y] max(0, margin - x[y] + x[i])^p, divided by the number of
/// classes; torch.nn.functional.multi_margin_loss. A NaN difference counts as 0, as torch has it.
struct MultiMarginLoss: BlockLoss {
  static let name = "multi_margin_loss"
  static let summary = "mean over classes of max(0, margin - input[target] + input)^p"
  static let inputHelp = "scores, (C) or (N, C)"
  static let hasWeight = true
  static let elementCost = 2.0
  static var attributes: [AttributeDeclaration] {
    [
      AttributeDeclaration(
        "p", .int, default: .int(1), minimum: .int(1), maximum: .int(2), help: "1 or 2"),
      .number("margin", 1, help: "by how much the target's score is to be above the others"),
    ]
  }

  private enum Place { static let (p, margin) = (1, 2) }
  private let isSquared: Bool
  private let margin: Double

  init(_ attributes: Attributes) {
    isSquared = attributes.int(Place.p) == 2
    margin = attributes.float(Place.margin)
  }

  func evaluate(
    _ kernels: KernelTable, _ work: RowWork, _ block: RowsBlock, _ count: Int
  ) throws(StatusError) {
    let classes = work.classes
    Double._load(work.input, work.start, block.x, count * classes)
    for index in 0..<count {
      let label = work.target.integer(work.row + index)
      try checkLabel(label, work.row + index, work.target, classes)
      let (x, y, own) = (block.x + index * classes, block.y + index * classes, Int(label))
      let weight = work.weight.map { $0[own] } ?? 1
      let factor = block.factors[index] * weight / Double(classes)
      // What is written behind a row is the next one's, which comes later.
      let sums = HingeBlock(
        x, classes, shift: margin - x[own], isSquared: isSquared, omitted: own
      ).sums(factor: factor, to: work.gradient == nil ? nil : y, isAdding: false)
      block.losses[index] = weight * sums.loss / Double(classes)
      if work.gradient != nil { y[own] = -factor * sums.slope }
    }
    if let gradient = work.gradient {
      Double._store(block.y, gradient, work.start, count * classes)
    }
  }

  func evaluate(_ row: RowWork) throws(StatusError) -> Double {
    let label = try row.label()
    let shift = margin - row.element(label)
    let weight = row.weight.map { $0[label] } ?? 1
    let factor = row.scale * weight / Double(row.classes)
    var (losses, slopes) = (CompensatedSum(), CompensatedSum())
    try row.eachBlock { first, count throws(StatusError) in
      row.load(first, count)
      // The target is no rival of itself.
      let sums = HingeBlock(
        row.x, count, shift: shift, isSquared: isSquared, omitted: label - first
      ).sums(
        factor: factor, to: row.gradient == nil ? nil : row.y, isAdding: false)
      losses.add(sums.loss)
      slopes.add(sums.slope)
      row.store(first, count)
    }
    row.gradient?[row.start + label] = -factor * slopes.value
    return weight * losses.value / Double(row.classes)
  }
}
