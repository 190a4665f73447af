import CLossdPlugin
import LossdTensor
import Synchronization

/// All functions at one moment. Immutable: a change makes a new table.
public final class FunctionTable: Sendable {
  /// Sorted by name.
  public let entries: [FunctionEntry]

  init(_ entries: [FunctionEntry]) { self.entries = entries.sorted { $0.name < $1.name } }

  /// The function of this name. Does not allocate.
  public func find(_ name: UnsafeRawBufferPointer) -> FunctionEntry? {
    // A binary search over C strings; a catalogue has tens of functions.
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      let order = compare(entries[middle].function.pointee.name, name)
      if order == 0 { return entries[middle] }
      if order < 0 { low = middle + 1 } else { high = middle }
    }
    return nil
  }

  /// The end of an error text about a function that is not here: which one may have been meant.
  public func didYouMean(_ name: String) -> String {
    LossdTensor.didYouMean(name, among: entries.lazy.map(\.name))
  }

  private func compare(_ text: UnsafePointer<CChar>, _ bytes: UnsafeRawBufferPointer) -> Int {
    for index in 0..<bytes.count {
      let unit = UInt8(bitPattern: text[index])
      if unit == 0 { return -1 }
      if unit != bytes[index] { return unit < bytes[index] ? -1 : 1 }
    }
    return text[bytes.count] == 0 ? 0 : 1
  }
}

/// Which function a name means now. Any thread; a call keeps the entry that it began with.
public final class Registry: Sendable {
  private let current: Mutex<FunctionTable>

  public init() { current = Mutex(FunctionTable([])) }

  public var table: FunctionTable { current.withLock { $0 } }

  /// Adds every function of a plugin, or none: FAILED_PRECONDITION when the descriptor is wrong,
  /// ALREADY_EXISTS when a name is taken. `owner` is the library it is from.
  public func add(
    _ plugin: UnsafePointer<lossd_plugin>, owner: (any FunctionOwner)? = nil
  ) throws(StatusError) {
    try replace(nil, with: plugin, owner: owner)
  }

  /// Exchanges the functions of one library for those of a plugin, in one step: a call sees all old
  /// ones or all new ones. Nothing has changed when it throws.
  public func replace(
    _ old: (any FunctionOwner)?, with plugin: UnsafePointer<lossd_plugin>,
    owner: (any FunctionOwner)?
  ) throws(StatusError) {
    try DescriptorCheck.check(plugin.pointee)
    let name = String(cString: plugin.pointee.name)
    let version = String(cString: plugin.pointee.version)
    var added: [FunctionEntry] = []
    for index in 0..<Int(plugin.pointee.function_count) {
      guard let function = plugin.pointee.functions[index] else { continue }
      added.append(
        FunctionEntry(checked: function, plugin: name, pluginVersion: version, owner: owner))
    }
    let clash: FunctionEntry? = current.withLock { table in
      let rest = table.entries.filter { old == nil || $0.owner !== old }
      let taken = Dictionary(rest.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
      var names = Set<String>()
      for entry in added {
        if let other = taken[entry.name] { return other }
        if !names.insert(entry.name).inserted { return entry }
      }
      table = FunctionTable(rest + added)
      return nil
    }
    if let clash {
      throw StatusError(
        .alreadyExists,
        "plugin \(name): the function \(clash.name) exists already, in the plugin \(clash.plugin)")
    }
  }

  /// Removes the functions of a library. Calls under way go on with it.
  public func remove(_ owner: any FunctionOwner) {
    current.withLock { table in
      table = FunctionTable(table.entries.filter { $0.owner !== owner })
    }
  }
}

/// Checks a plugin's descriptor; FAILED_PRECONDITION with what is wrong.
public func checkDescriptor(_ plugin: lossd_plugin) throws(StatusError) {
  try DescriptorCheck.check(plugin)
}

/// plugin.h's host table, for a plugin's entry.
public var hostTable: UnsafePointer<lossd_host> { Host.table }
