extension ServiceSet {
  /// Full names of all services, `lossd.v1.Evaluator` one of them.
  public static var allNames: [String] { ServiceTable.serviceNames }

  /// The services of these names; nil: one of them is no service's.
  public init?(named names: [String]) {
    var numbers: [Int] = []
    for name in names {
      guard let number = ServiceTable.serviceNames.firstIndex(of: name) else { return nil }
      numbers.append(number)
    }
    self.init(numbers: numbers)
  }

  /// The full names of these services.
  public var names: [String] {
    ServiceTable.serviceNames.enumerated().filter { contains($0.offset) }.map(\.element)
  }
}
