import LossdTensor

/// How far a set of results is from the truth, in ulps of the result's type: ours and torch's.
struct Distances {
  var count = 0
  var worst = 0.0
  var torchWorst = 0.0
  var sum = 0.0
  var torchSum = 0.0

  var mean: Double { count == 0 ? 0 : sum / Double(count) }
  var torchMean: Double { count == 0 ? 0 : torchSum / Double(count) }

  mutating func add(_ ours: Double, torch: Double) {
    count += 1
    worst = max(worst, ours)
    torchWorst = max(torchWorst, torch)
    sum += ours
    torchSum += torch
  }

  mutating func add(_ other: Distances) {
    count += other.count
    worst = max(worst, other.worst)
    torchWorst = max(torchWorst, other.torchWorst)
    sum += other.sum
    torchSum += other.torchSum
  }

  /// The rule: the worst and the mean are at most torch's, or `floor` where torch's are smaller.
  func isWithin(floor: Double) -> Bool {
    worst <= max(torchWorst, floor) && mean <= max(torchMean, floor)
  }
}

/// finite, +inf, -inf or NaN.
func kind(_ value: Double) -> Character {
  value.isNaN ? "n" : value == .infinity ? "+" : value == -.infinity ? "-" : "f"
}

/// The distance of two neighbours of `type` at this magnitude.
func ulp(_ magnitude: Double, _ type: DataType) -> Double {
  let (bits, smallest) =
    switch type {
    case .float64: (52, -1074)
    case .float32: (23, -149)
    case .float16: (10, -24)
    default: (7, -133)
    }
  guard magnitude > 0 else { return power(smallest) }
  return power(max(Int(magnitude.exponent) - bits, smallest))
}

private func power(_ exponent: Int) -> Double {
  Double(sign: .plus, exponent: exponent, significand: 1)
}
