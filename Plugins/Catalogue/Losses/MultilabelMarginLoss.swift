import LossdPluginKit
import LossdTensor

/// sum over the labels y of a row and the classes i that are none of max(0, 1 - x[y] + x[i]), divided by the number
/// of classes; torch.nn.functional.multilabel_margin_loss. The labels end at the first -1; one that is there twice
/// counts twice. A NaN difference counts as 0, as torch has it.
struct MultilabelMarginLoss: RowLoss {
  static let name = "multilabel_margin_loss"
  static let summary =
    "sum of max(0, 1 - input[label] + input[other]) over classes, by their number"
  static let inputHelp = "scores, (C) or (N, C)"
  static let hasLists = true
  static let elementCost = 50.0
  static var attributes: [AttributeDeclaration] { [] }
  /// Up to so many labels each is compared with each other class; more with sorted ones.
  private static let labelsCompared = 64

  static func scratchBytes(classes: Int) -> Int { LabelRow.bytes(classes) }

  init(_ attributes: Attributes) {}

  func evaluate(_ row: RowWork) throws(StatusError) -> Double {
    var labels = LabelRow(row.more, classes: row.classes)
    try labels.read(row)
    try row.eachBlock { first, count throws(StatusError) in
      row.load(first, count)
      for index in 0..<count { labels.rivals[first + index] = row.x[index] }
    }
    for index in 0..<labels.count { labels.take(index) }
    let hasGradient = row.gradient != nil
    if hasGradient { labels.slopes.update(repeating: 0, count: (row.classes + 3) / 4 * 4) }
    let sum =
      labels.count <= Self.labelsCompared
      ? try compareEach(row, labels, hasGradient)
      : SortedRivals(labels).sum(hasGradient)
    let classes = Double(row.classes)
    if hasGradient {
      let factor = row.scale / classes
      try row.eachBlock { first, count throws(StatusError) in
        for index in 0..<count { row.y[index] = factor * labels.slopes[first + index] }
        row.store(first, count)
      }
    }
    return sum / classes
  }

  private func compareEach(
    _ row: RowWork, _ labels: LabelRow, _ hasGradient: Bool
  ) throws(StatusError) -> Double {
    var losses = CompensatedSum()
    let rivals = HingeBlock(labels.rivals, row.classes, shift: 0)
    for index in 0..<labels.count {
      // Some 1 ms of comparisons.
      if (index + 1) * row.classes > 1 << 20 { try row.call.checkCancelled() }
      let block = HingeBlock(rivals, shift: 1 - labels.scores[index])
      let times = Double(labels.times[labels.labels[index]])
      let sums = block.sums(
        factor: times, to: hasGradient ? labels.slopes : nil, isAdding: true)
      losses.add(times * sums.loss)
      // A label is no rival, so that nothing was added here.
      if hasGradient { labels.slopes[labels.labels[index]] = -times * sums.slope }
    }
    return losses.value
  }
}

extension HingeBlock {
  fileprivate init(_ other: HingeBlock, shift: Double) {
    (x, count, isSquared, omitted) = (other.x, other.count, other.isSquared, other.omitted)
    self.shift = shift
  }
}

/// The labels of a row, each once, and the scores of the others, in scratch memory.
struct LabelRow {
  /// The scores of the classes, -infinity in the place of a label's.
  let rivals: UnsafeMutablePointer<Double>
  let slopes: UnsafeMutablePointer<Double>
  /// The scores of the labels.
  let scores: UnsafeMutablePointer<Double>
  /// For sorting.
  let order: UnsafeMutablePointer<Int>
  let labels: UnsafeMutablePointer<Int>
  /// How often each class is a label.
  let times: UnsafeMutablePointer<Int>
  private(set) var count = 0
  let classes: Int

  private static func room(_ classes: Int) -> Int { (classes + 11) / 8 * 8 }

  static func bytes(_ classes: Int) -> Int {
    // No memory holds a longer row, and no product overflows.
    6 * room(min(classes, 1 << 48)) * MemoryLayout<Double>.stride
  }

  init(_ memory: UnsafeMutableRawPointer, classes: Int) {
    self.classes = classes
    let room = LabelRow.room(classes)
    rivals = memory.assumingMemoryBound(to: Double.self)
    slopes = rivals + room
    scores = slopes + room
    order = UnsafeMutableRawPointer(scores + room).assumingMemoryBound(to: Int.self)
    labels = order + room
    times = labels + room
  }

  /// Checks the whole row, and keeps the labels up to the first -1.
  mutating func read(_ row: RowWork) throws(StatusError) {
    times.update(repeating: 0, count: classes)
    var isOver = false
    for index in 0..<classes {
      let place = row.start + index
      let label = row.target.integer(place)
      if label == -1 {
        isOver = true
        continue
      }
      if label < 0 || label >= Int64(classes) {
        try checkLabel(label, place, row.target, classes)
      }
      if isOver { continue }
      if times[Int(label)] == 0 {
        labels[count] = Int(label)
        count += 1
      }
      times[Int(label)] += 1
    }
  }

  /// Takes a label out of the rivals.
  func take(_ index: Int) {
    scores[index] = rivals[labels[index]]
    rivals[labels[index]] = -.infinity
  }
}

/// The rivals of many labels by falling scores, so that each label has lost against the first so many.
private struct SortedRivals {
  private let row: LabelRow
  /// Rivals that are numbers: the others never win.
  private var count = 0
  /// What all scores are told from, so that sums of large ones keep their digits.
  private var origin = 0.0

  init(_ row: LabelRow) {
    self.row = row
    for index in 0..<row.classes where row.rivals[index] > -.infinity {
      row.order[count] = index
      count += 1
    }
    let rivals = row.rivals
    var order = UnsafeMutableBufferPointer(start: row.order, count: count)
    order.sort {
      rivals[$0] != rivals[$1] ? rivals[$0] > rivals[$1] : $0 < $1
    }
    for index in 0..<count where rivals[row.order[index]].isFinite {
      origin = rivals[row.order[index]]
      break
    }
  }

  func sum(_ hasGradient: Bool) -> Double {
    // Labels by falling scores, so that each next one has lost against as many or more. One that is no number never
    // loses.
    let scores = row.scores
    let places = row.order + count
    var numbers = 0
    for index in 0..<row.count where !scores[index].isNaN {
      places[numbers] = index
      numbers += 1
    }
    var falling = UnsafeMutableBufferPointer(start: places, count: numbers)
    falling.sort {
      scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 < $1
    }
    var losses = CompensatedSum()
    var (winners, prefix) = (0, CompensatedSum())
    for index in 0..<numbers {
      let (place, shift) = (places[index], 1 - scores[places[index]])
      while winners < count && shift + row.rivals[row.order[winners]] > 0 {
        prefix.add(row.rivals[row.order[winners]] - origin)
        winners += 1
      }
      if winners == 0 { continue }
      let times = Double(row.times[row.labels[place]])
      losses.add(times * (Double(winners) * (shift + origin) + prefix.value))
      if hasGradient {
        row.slopes[row.labels[place]] = -times * Double(winners)
        row.slopes[row.order[winners - 1]] += times
      }
    }
    guard hasGradient else { return losses.value }
    // A rival has won against each label that has lost against as many as come up to its place.
    var won = 0.0
    for index in stride(from: count - 1, through: 0, by: -1) {
      won += row.slopes[row.order[index]]
      row.slopes[row.order[index]] = won
    }
    return losses.value
  }
}
