/// The services that a listener offers, by their numbers in the table of services.
public struct ServiceSet: Sendable, Equatable {
  private let bits: UInt32

  init(numbers: some Sequence<Int>) { bits = numbers.reduce(0) { $0 | 1 << UInt32($1) } }

  private init(bits: UInt32) { self.bits = bits }

  /// Whatever there is.
  public static let all = ServiceSet(bits: .max)

  func contains(_ number: Int) -> Bool { bits >> UInt32(number) & 1 != 0 }
}
