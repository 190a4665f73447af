import CLossdPlugin
import LossdTensor

/// The float64 sums of a function, added up over chunks, batches or machines.
///
/// Addition is compensated (Knuth's TwoSum), so that the result has the accuracy of a sum in about
/// twice float64's precision however many parts there are, unless the function merges by itself.
public struct Accumulator: Sendable {
  public private(set) var sums: [Double]
  public private(set) var compensations: [Double]

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

  /// Sums and what their additions rounded away, as another process has them; one of each a field.
  public init(sums: [Double], compensations: [Double]) {
    precondition(sums.count == compensations.count)
    self.sums = sums
    self.compensations = compensations
  }

  /// Adds one part's sums, one a field of the function. Throws what the function's own merge failed
  /// with.
  public mutating func add(
    _ part: UnsafePointer<Double>, _ entry: FunctionEntry
  ) throws(StatusError) {
    if entry.mergesByItself {
      var error = FunctionEntry.noError()
      var code = LOSSD_OK
      sums.withUnsafeMutableBufferPointer {
        if let base = $0.baseAddress { code = entry.merge(base, part, &error) }
      }
      if code != LOSSD_OK { throw StatusError(entry.name, code, error) }
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

  /// Adds all of another accumulator of the same function.
  public mutating func merge(
    _ other: Accumulator, _ entry: FunctionEntry
  ) throws(StatusError) {
    if other.sums.isEmpty { return }
    try addAll(other.sums, entry)
    if !entry.mergesByItself { try addAll(other.compensations, entry) }
  }

  private mutating func addAll(
    _ parts: [Double], _ entry: FunctionEntry
  ) throws(StatusError) {
    var failure: StatusError?
    parts.withUnsafeBufferPointer { parts in
      guard let base = parts.baseAddress else { return }
      do throws(StatusError) { try add(base, entry) } catch { failure = error }
    }
    if let failure { throw failure }
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
