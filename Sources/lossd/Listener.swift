import LossdServer
import LossdSocket
import LossdTensor

/// An item of `listen` or `admin_listen`: an address, and what is offered there where it is not
/// what the settings for all listeners say.
struct Listener {
  let address: Address
  private(set) var protocols: [WireProtocol]?
  private(set) var services: ServiceSet?

  /// What an item that is a mapping has in a file, the address first.
  static let members = ["address", "protocols", "services"]

  /// Reads `tcp:HOST:PORT protocols=grpc services=NAME+NAME`: the words after the address are not
  /// needed. Throws why it cannot be used.
  init(parsing text: String) throws(SettingError) {
    var rest = text.trimmed
    var protocols: [WireProtocol]?
    var services: ServiceSet?
    while let blank = rest.lastIndex(of: " ") {
      let parts = rest[rest.index(after: blank)...].split(
        separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      // A path may have blanks.
      if parts.count < 2 { break }
      let items = parts[1].split(separator: "+").map(String.init)
      switch parts[0] {
      case "protocols" where protocols == nil: protocols = try Listener.protocols(items)
      case "services" where services == nil: services = try Listener.services(items)
      case "protocols", "services": throw SettingError("\(parts[0])= is there twice")
      default:
        throw SettingError(
          "\(parts[0].asValue)= follows an address, expected protocols= or services=")
      }
      rest = rest[..<blank].trimmed
    }
    do { address = try Address(parsing: rest) } catch { throw SettingError("\(error)") }
    self.protocols = protocols
    self.services = services
  }

  /// `general`: what the settings for all listeners say.
  func offer(_ general: ListenerOffer) -> ListenerOffer {
    ListenerOffer(
      protocols: protocols ?? general.protocols, services: services ?? general.services)
  }

  // MARK: - What is offered

  /// What these names are: each once, in their order.
  static func protocols(_ names: [String]) throws(SettingError) -> [WireProtocol] {
    var protocols: [WireProtocol] = []
    for name in names {
      guard let spoken = WireProtocol(rawValue: name) else {
        throw SettingError("\(name.asValue) is not lossd or grpc")
      }
      if !protocols.contains(spoken) { protocols.append(spoken) }
    }
    if protocols.isEmpty { throw SettingError("nothing would be spoken") }
    return protocols
  }

  /// The services of these full names, or `all`.
  static func services(_ names: [String]) throws(SettingError) -> ServiceSet {
    if names == ["all"] { return .all }
    for name in names where !ServiceSet.allNames.contains(name) {
      throw SettingError(
        "\(name.asValue) is no service" + didYouMean(name, among: ServiceSet.allNames)
          + ", expected all or some of " + ServiceSet.allNames.joined(separator: ", "))
    }
    guard !names.isEmpty, let services = ServiceSet(named: names) else {
      throw SettingError("nothing could be called")
    }
    return services
  }
}
