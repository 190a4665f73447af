import LossdTensor
import LossdWire

/// The services of the daemon and their methods: a new method is an entry here, and a handler.
/// Services know calls, in values, and never how a session writes them.
struct ServiceTable {
  /// A method, and what makes a handler of its calls.
  struct Entry: Sendable {
    let path: StaticString
    var isStreaming = false
    var isEvaluating = false
    let makeHandler: @Sendable (CallLoop) -> CallHandler
  }

  private struct Service: Sendable {
    /// What the paths of its methods begin with.
    let prefix: StaticString
    /// Only administrators may call it.
    var isForAdmins = false
    /// It is one of gRPC's own, for clients that speak gRPC.
    var isForGRPC = false
    let methods: [Entry]
  }

  private static let services = [
    Service(
      prefix: "/lossd.v1.Evaluator/",
      methods: [
        Entry(
          path: "/lossd.v1.Evaluator/Evaluate", isEvaluating: true,
          makeHandler: { EvaluationHandler($0) }),
        Entry(
          path: "/lossd.v1.Evaluator/EvaluateStream", isStreaming: true, isEvaluating: true,
          makeHandler: { EvaluationHandler($0) }),
        Entry(path: "/lossd.v1.Evaluator/ListFunctions", makeHandler: { ListFunctionsHandler($0) }),
      ]),
    Service(
      prefix: "/lossd.v1.Daemon/",
      methods: [Entry(path: "/lossd.v1.Daemon/GetStatus", makeHandler: { GetStatusHandler($0) })]),
    Service(
      prefix: "/lossd.v1.PluginHost/", isForAdmins: true,
      methods: [
        Entry(path: "/lossd.v1.PluginHost/ListPlugins") {
          PluginHandler($0, PluginRequest.decodeList)
        },
        Entry(path: "/lossd.v1.PluginHost/LoadPlugin") {
          PluginHandler($0, PluginRequest.decodeLoad)
        },
        Entry(path: "/lossd.v1.PluginHost/ReloadPlugin") {
          PluginHandler($0, PluginRequest.decodeReload)
        },
        Entry(path: "/lossd.v1.PluginHost/UnloadPlugin") {
          PluginHandler($0, PluginRequest.decodeUnload)
        },
      ]),
    Service(
      prefix: "/grpc.health.v1.Health/", isForGRPC: true,
      methods: [
        Entry(path: "/grpc.health.v1.Health/Check", makeHandler: { HealthCheckHandler($0) }),
        Entry(
          path: "/grpc.health.v1.Health/Watch", isStreaming: true,
          makeHandler: { HealthWatchHandler($0) }),
      ]),
    Service(
      prefix: "/grpc.reflection.v1.ServerReflection/", isForGRPC: true,
      methods: [
        Entry(
          path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", isStreaming: true,
          makeHandler: { ReflectionHandler($0) })
      ]),
    Service(
      prefix: "/grpc.reflection.v1alpha.ServerReflection/", isForGRPC: true,
      methods: [
        Entry(
          path: "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", isStreaming: true,
          makeHandler: { ReflectionHandler($0) })
      ]),
  ]

  /// All methods, by their numbers.
  private static let entries = services.flatMap(\.methods)

  /// Full names of all services.
  static let serviceNames = services.map { service in
    service.prefix.withUTF8Buffer { String(decoding: $0.dropFirst().dropLast(), as: UTF8.self) }
  }

  /// The method that a client asks for. UNIMPLEMENTED: there is none, or the client's listener does
  /// not offer its service; PERMISSION_DENIED: it is for administrators. Does not allocate
  /// otherwise.
  /// - Parameters:
  ///   - offered: what the listener offers.
  ///   - isGRPC: the client speaks gRPC, whose own services are there as well.
  static func method(
    _ path: UnsafeRawBufferPointer, _ administration: Administration, _ offered: ServiceSet,
    isGRPC: Bool = false
  ) throws(StatusError) -> Method {
    var first = 0
    for (number, service) in services.enumerated() {
      if path.hasPrefix(service.prefix) && (isGRPC || !service.isForGRPC) {
        if !offered.contains(number) {
          throw StatusError(
            .unimplemented, "this listener does not offer \(serviceNames[number]) (services)")
        }
        if service.isForAdmins { try check(administration, path) }
        for (index, entry) in service.methods.enumerated() where path.equals(entry.path) {
          return Method(
            number: first + index, path: entry.path, isStreaming: entry.isStreaming,
            isEvaluating: entry.isEvaluating)
        }
        break
      }
      first += service.methods.count
    }
    throw StatusError(.unimplemented, "no method named `\(displayText(path))`")
  }

  private static func check(
    _ administration: Administration, _ path: UnsafeRawBufferPointer
  ) throws(StatusError) {
    switch administration {
    case .allowed: break
    case .elsewhere:
      throw StatusError(
        .permissionDenied, "\(displayText(path)) answers on the admin socket alone")
    case .refused(let reason):
      throw StatusError(.permissionDenied, "\(displayText(path)): \(reason)")
    }
  }

  static func makeHandler(_ method: Method, _ context: CallLoop) -> CallHandler {
    entries[method.number].makeHandler(context)
  }
}
