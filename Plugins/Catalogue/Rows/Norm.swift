import Glibc
import LossdKernelTable

/// torch's p-norm of a row: the p-th root of the sum of |d|^p. Its gradient is `factor` times a slope of each element.
struct Norm: BitwiseCopyable {
  enum Kind: BitwiseCopyable { case count, magnitudes, squares, largest, smallest, power }

  let p: Double
  let kind: Kind

  init(_ p: Double) {
    self.p = p
    kind =
      switch p {
      case 0: .count
      case 1: .magnitudes
      case 2: .squares
      case .infinity: .largest
      case -.infinity: .smallest
      default: .power
      }
  }

  /// What the kernels add up; nil: scalar arithmetic does.
  var sum: RowSum? {
    switch kind {
    case .magnitudes: .magnitudes
    case .squares: .squares
    case .largest: .largest
    default: nil
    }
  }

  /// What the gradient is made of, but for powers. A count has none, and its factor is 0.
  var slope: RowSlope {
    switch kind {
    case .squares: .linear
    case .largest, .smallest: .signOfLargest
    default: .sign
    }
  }

  /// Elements that are as far from 0 as any share the gradient.
  var hasTies: Bool { kind == .largest || kind == .smallest }

  /// Whether a slope looks at the norm itself.
  var hasLimits: Bool { hasTies || kind == .power }

  /// A count has none.
  var hasGradient: Bool { kind != .count }

  /// Whether torch has a norm of a row without elements.
  var hasEmptyRows: Bool { p >= 0 && p != .infinity }

  /// From the sum, or the largest or smallest.
  func value(_ sum: Double) -> Double {
    switch kind {
    case .squares: sum.squareRoot()
    case .power: p.isNaN ? .nan : pow(sum, 1 / p)
    default: sum
    }
  }

  /// What the slopes are multiplied by.
  func factor(_ norm: Double, ties: Double) -> Double {
    switch kind {
    case .count: 0
    case .magnitudes: 1
    case .squares: norm == 0 ? 0 : 1 / norm
    case .largest, .smallest: 1 / ties
    case .power: norm == 0 ? 0 : 1
    }
  }

  /// What one |d| adds to the sum of those kinds that have one.
  @inline(__always)
  func term(_ size: Double) -> Double {
    switch kind {
    case .count: size == 0 ? 0 : 1
    case .squares: size * size
    case .power: pow(size, p)
    default: size
    }
  }

  /// The slope of an element d, before the factor.
  @inline(__always)
  func slope(_ d: Double, norm: Double) -> Double {
    let sign: Double = d > 0 ? 1 : d < 0 ? -1 : 0
    switch kind {
    case .squares: return d
    case .largest, .smallest: return d.magnitude == norm ? sign : 0
    case .power:
      if norm == 0 || p < 1 && d == 0 { return 0 }
      return (d.isNaN ? d : sign) * pow(d.magnitude / norm, p - 1)
    default: return sign
    }
  }
}
