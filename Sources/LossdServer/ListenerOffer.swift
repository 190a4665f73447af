/// What a listener offers to those that connect to it.
public struct ListenerOffer: Sendable, Equatable {
  /// What is spoken there.
  public var protocols: [WireProtocol]
  /// What can be called there.
  public var services: ServiceSet

  public init(
    protocols: [WireProtocol] = WireProtocol.allCases, services: ServiceSet = .all
  ) {
    self.protocols = protocols
    self.services = services
  }
}
