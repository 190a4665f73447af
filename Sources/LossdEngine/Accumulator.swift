import CLossdPlugin

/// The float64 sums of a function, added up over chunks, batches or machines.
///
/// Addition is compensated (Knuth's TwoSum), so that the result has the accuracy of a sum in about
/// twice float64's precision however many parts there are, unless the function merges by itself.
public struct Accumulator: Sendable {
  public private(set) var sums: [Double]
  private var compensations: [Double]

  public init(fields: Int) {
    sums = Array(repeating: 0, count: fields)
    compensations = Array(repeating: 0, count: fields)
  }

  public mutating func reset(fields: Int) {
    if sums.count == fields {
      for index in 0..<fields {
        sums[index] = 0
        compensations[index] = 0
      }
    } else {
      self = Accumulator(fields: fields)
    }
  }

  /// Adds another part's sums.
  private mutating func merge(_ part: UnsafePointer<Double>, _ entry: FunctionEntry) {
    if let merge = entry.function.pointee.merge {
      entry.guarded {
        sums.withUnsafeMutableBufferPointer { merge(entry.function, $0.baseAddress, part) }
      }
      return
    }
    for index in 0..<sums.count {
      let old = sums[index]
      let new = old + part[index]
      let virtual = new - old
      let error = (old - (new - virtual)) + (part[index] - virtual)
      sums[index] = new
      // An infinity makes the error term NaN, which must not spoil the sum.
      if error.isFinite { compensations[index] += error }
    }
  }

  /// Adds one part's sums, one a field of the function.
  public mutating func add(_ part: UnsafePointer<Double>, _ entry: FunctionEntry) {
    merge(part, entry)
  }

  /// Adds all of another accumulator of the same function.
  public mutating func merge(_ other: Accumulator, _ entry: FunctionEntry) {
    other.sums.withUnsafeBufferPointer { sums in
      if let base = sums.baseAddress { merge(base, entry) }
    }
    if entry.function.pointee.merge == nil {
      other.compensations.withUnsafeBufferPointer { sums in
        if let base = sums.baseAddress { merge(base, entry) }
      }
    }
  }

  /// The sums rounded to float64, one a field.
  public var values: [Double] { sums.indices.map { sums[$0] + compensations[$0] } }

  /// The sums rounded to float64, one a field.
  public func write(to values: UnsafeMutablePointer<Double>) {
    for index in 0..<sums.count {
      let total = sums[index] + compensations[index]
      values[index] = total
    }
  }
}
