import ArgumentParser
import Glibc

extension Plugin {
  /// lossctl plugin new NAME
  struct New: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract:
        "Write the folder of a new plugin, which `make` turns into a library; asks no daemon.",
      discussion: """
        The folder holds a complete loss with its gradient, to be changed into another. `make` builds NAME.so, \
        `make check` compares its gradient with finite differences, `make install` puts it into a plugin folder.
        """)

    enum Language: String, ExpressibleByArgument, CaseIterable { case swift, c, cpp }
    enum Kind: String, ExpressibleByArgument, CaseIterable { case elementwise, rowwise }

    @Argument(
      help: "The function's, the plugin's and the folder's name: a-z, 0-9 and _, a letter first.")
    var name: String
    @Option(help: "swift, c or cpp.") var language: Language
    @Option(
      help: "elementwise: a loss of an input and a target element; rowwise: of a row of classes.")
    var kind = Kind.elementwise
    @Option(help: ArgumentHelp("Where the folder is made.", valueName: "folder"))
    var into = "."
    @Option(
      help: ArgumentHelp(
        """
        The prefix that lossd is installed under, or the folder sdk of a checkout; else $LOSSD_SDK, \
        else this program's own.
        """,
        valueName: "prefix"))
    var sdk: String?

    func run() async throws {
      try await reporting {
        try checkName()
        let template = PluginTemplate(
          name: name, language: language, kind: kind, sdk: try PluginSDK.find(sdk, language))
        let folder = into == "." ? name : into + "/" + name
        try write(template.files, to: folder)
        print(
          """
          \(folder): \(template.files.map(\.name).joined(separator: ", "))
          Next, in \(folder):
            make            builds \(name).so
            make check      compares its gradient with finite differences
            make install    puts it into /etc/lossd/plugins (FOLDER=...), where a running daemon finds it
          """)
      }
    }

    private func checkName() throws {
      let bytes = Array(name.utf8)
      let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
      let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
      guard let first = bytes.first, letters.contains(first), bytes.count <= 64,
        bytes.allSatisfy({ letters.contains($0) || digits.contains($0) || $0 == UInt8(ascii: "_") })
      else {
        throw Complaint(
          "`\(name)` cannot be a plugin's name: a-z, 0-9 and _, a letter first, at most 64",
          status: 64)
      }
      if try EmbeddedEngine().functions(named: nil).contains(where: { $0.name == name }) {
        throw Complaint("lossd has a function named \(name) itself: take another name", status: 64)
      }
    }

    private func write(_ files: [PluginTemplate.File], to folder: String) throws {
      func failure(_ path: String) -> Complaint {
        Complaint("\(path): \(String(cString: strerror(errno)))", status: 73)
      }
      // Never into a folder that is there: nobody's work is overwritten.
      guard mkdir(folder, 0o755) == 0 else { throw failure(folder) }
      for file in files {
        let path = folder + "/" + file.name
        let parts = file.name.split(separator: "/").dropLast()
        for depth in 0..<parts.count {
          let inner = folder + "/" + parts[...depth].joined(separator: "/")
          guard mkdir(inner, 0o755) == 0 || errno == EEXIST else { throw failure(inner) }
        }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw failure(path) }
        defer { _ = close(descriptor) }
        let bytes = Array(file.text.utf8)
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
          throw failure(path)
        }
      }
    }
  }
}

/// Where headers and the Swift kit are: PREFIX/include/lossd and PREFIX/share/lossd/swift.
enum PluginSDK {
  static let header = "/include/lossd/plugin.h"
  static let kit = "/share/lossd/swift/Package.swift"

  /// The prefix: given, of the environment, this program's own, or that of the checkout it was
  /// built in.
  static func find(_ given: String?, _ language: Plugin.New.Language) throws -> String {
    let named = given ?? getenv("LOSSD_SDK").map { String(cString: $0) }
    let candidates = named.map { [$0] } ?? own()
    for candidate in candidates {
      guard let prefix = resolved(candidate), access(prefix + header, R_OK) == 0 else { continue }
      if language == .swift && access(prefix + kit, R_OK) != 0 { continue }
      return prefix
    }
    let missing =
      language == .swift
      ? "\(header.dropFirst()) and \(kit.dropFirst())" : String(header.dropFirst())
    throw Complaint(
      "no \(missing) under \(candidates.joined(separator: ", ")): "
        + "install lossd-dev, or say --sdk or LOSSD_SDK: "
        + "the prefix that lossd is installed under, or the folder sdk of a checkout", status: 69)
  }

  /// PREFIX of PREFIX/bin/lossctl, and the folders `sdk` further up, of a checkout.
  private static func own() -> [String] {
    guard let program = resolved("/proc/self/exe") else { return ["/usr"] }
    var folder = parent(parent(program))
    var candidates = [folder.isEmpty ? "/" : folder]
    while !folder.isEmpty {
      candidates.append(folder + "/sdk")
      folder = parent(folder)
    }
    return candidates
  }

  private static func parent(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "" }
    return String(path[..<slash])
  }

  private static func resolved(_ path: String) -> String? {
    guard let pointer = realpath(path, nil) else { return nil }
    defer { free(pointer) }
    return String(cString: pointer)
  }
}
