// The C++17 wrapper: the same as minimal.c.
//
//     hello BUNDLE QUESTION [https://HOST[:PORT] [CA.pem]]
#include <iostream>
#include <optional>

#include "hybrid.hpp"

int main(int argc, char **argv) try {
  if (argc < 3 || argc > 5) {
    std::cerr << "hello BUNDLE QUESTION [URL [CA]]\n";
    return 2;
  }
  hybrid::model model(argv[1]);
  std::optional<hybrid::cloud> cloud;
  if (argc > 3) {
    auto server = hybrid::cloud_options();
    server.url = argv[3];
    server.ca_file = argc > 4 ? argv[4] : nullptr;
    cloud.emplace(server);
    try {
      cloud->probe(model);
    } catch (const hybrid::error &e) {
      std::cerr << "offline, the SLM writes alone: " << e.what() << '\n';
    }
  }
  auto session = cloud ? hybrid::session(model, *cloud) : hybrid::session(model);
  session.chat({{"user", argv[2]}});
  session.run(256, [](const hybrid_step_result &step) { std::cout << step.text << std::flush; });
  std::cout << session.flush() << '\n';
  return 0;
} catch (const hybrid::error &e) {
  std::cerr << e.what() << '\n';
  return 1;
}
